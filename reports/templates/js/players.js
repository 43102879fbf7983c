/* Players that stand on one frame. After every pause, seek and step the same frame index is shown in all of them:
   a video is put to the middle of a frame's time, never to its edge, where rounding would decide. */

const FPS = 25;
let videos = [];
let playing = false;
let loop = true;
/** Frame of the longest clip that all stand on while paused. */
let frameNow = 0;
/** First and last frame of the repeated part, or null. */
let region = null;
/** Whose sound is heard: the row's index, `reference`, or null. */
let heard = null;

const fpsOf = (v) => Number(v?.dataset.fps) || FPS;
const framesOf = (v) => Math.max(1, Math.round((v.duration || 0) * fpsOf(v)));
const leader = () => videos.reduce((best, v) => ((v.duration || 0) > (best?.duration || 0) ? v : best), null);
const length = () => leader()?.duration || 0;
const frames = () => (leader() ? framesOf(leader()) : 1);
const frameAt = (v) => Math.min(framesOf(v) - 1, Math.floor(v.currentTime * fpsOf(v) + 1e-3));
/** Seconds at the start of what is shown. */
const time = () => { const lead = leader(); if (!lead) return 0; return playing ? lead.currentTime : frameNow / fpsOf(lead); };

function video(src, key, fps) {
  const node = make("video", { src, preload: "auto", playsinline: true, "data-key": key, "data-fps": fps ?? FPS });
  node.muted = String(heard) !== String(key);
  // A reference is a user's own file, in whatever format: the ground-truth row shows the same pictures.
  const giveUp = (why) => {
    const instead = key === "reference" && !node.dataset.instead ? truthLink() : "";
    if (instead) { node.dataset.instead = "yes"; node.title = "As encoded for ground-truth: " + why; node.src = instead; return; }
    videos = videos.filter((v) => v !== node);
    node.replaceWith(make("div", { class: "absent" }, why));
  };
  node.addEventListener("error", () => giveUp("This clip is not where the report expects it, or no browser reads it: " + decodeURIComponent(src)));
  node.addEventListener("loadedmetadata", () => {
    if (!node.videoWidth) giveUp("This browser cannot show the pictures of this file: " + decodeURIComponent(src));
    else if (!playing) stand(frameNow);
  });
  videos.push(node);
  return node;
}
/** Put every player on this frame of the longest clip; shorter ones stay on their last. */
function stand(n) {
  const lead = leader();
  frameNow = clamp(Math.round(n), 0, lead?.duration ? framesOf(lead) - 1 : Infinity);
  if (!lead?.duration) return;
  const at = (frameNow + 0.5) / fpsOf(lead);
  for (const v of videos) {
    if (!v.readyState) continue;
    const own = Math.min(framesOf(v) - 1, Math.floor(at * fpsOf(v)));
    const middle = (own + 0.5) / fpsOf(v);
    if (Math.abs(v.currentTime - middle) > 1e-4) v.currentTime = middle;
  }
  tick();
}
/** Go to a moment, in seconds. */
function seek(t) {
  const lead = leader();
  if (!lead) return;
  stand(Math.floor(t * fpsOf(lead) + 1e-3));
}
function step(n) { pause(); stand(frameNow + n); writeAddress(); }
function play() {
  if (!videos.length) return;
  const [from, to] = region ?? [0, frames() - 1];
  if (frameNow >= to || frameNow < from) stand(from);
  playing = true;
  for (const v of videos) v.play().catch(() => {});
  $("play").replaceChildren(icon("pause"));
  $("play").setAttribute("aria-label", "Pause");
  requestAnimationFrame(follow);
}
function pause() {
  const was = playing;
  const lead = leader();
  playing = false;
  for (const v of videos) v.pause();
  $("play").replaceChildren(icon("play"));
  $("play").setAttribute("aria-label", "Play");
  if (was && lead) stand(frameAt(lead));
}
function toggle() { if (playing) { pause(); writeAddress(); } else { play(); } }
/** Keep every player within a frame and a half of the longest one, and repeat what is to be repeated. */
function follow() {
  if (!playing) return;
  const lead = leader();
  if (lead) {
    const t = lead.currentTime;
    for (const v of videos) {
      if (v === lead || !v.readyState || t > v.duration) continue;
      if (Math.abs(v.currentTime - t) > 0.06 && !v.seeking) v.currentTime = t;
      if (v.paused && !v.ended) v.play().catch(() => {});
    }
    const end = region ? (region[1] + 1) / fpsOf(lead) : lead.duration - 0.02;
    if (lead.ended || t >= end) {
      if (loop || region) {
        stand(region ? region[0] : 0);
        for (const v of videos) v.play().catch(() => {});
      } else {
        frameNow = frames() - 1;
        pause();
      }
    }
    frameNow = frameAt(lead);
    tick();
  }
  requestAnimationFrame(follow);
}
function tick() {
  const lead = leader();
  const n = playing && lead ? frameAt(lead) : frameNow;
  const last = frames() - 1;
  if (document.activeElement !== $("scrub") || playing) $("scrub").value = last ? (1000 * n) / last : 0;
  $("scrub").setAttribute("aria-valuetext", `frame ${n} of ${last}`);
  $("clock").textContent = `${(lead ? n / fpsOf(lead) : 0).toFixed(2)} s · ${n}`;
  playhead(lead ? n / fpsOf(lead) : 0);
}
/** Hear one clip, or none when it is heard already. */
function listen(key) {
  heard = String(heard) === String(key) ? null : key;
  sound();
}
function sound() {
  for (const v of videos) v.muted = String(heard) !== v.dataset.key;
  for (const button of document.querySelectorAll(".player header button")) press(button, button.dataset.key === String(heard));
  if ([...$("sound").options].some((o) => o.value === String(heard))) $("sound").value = String(heard);
  else $("sound").value = "null";
}
function mark(end) {
  const [from, to] = region ?? [0, frames() - 1];
  region = end ? [Math.min(from, frameNow), frameNow] : [frameNow, Math.max(to, frameNow)];
  showRegion();
}
function showRegion() {
  const last = frames() - 1;
  $("region").hidden = !region;
  if (region) {
    $("region").textContent = `frames ${region[0]}–${region[1]} ✕`;
    $("scrub").style.setProperty("--from", `${(100 * region[0]) / (last || 1)}%`);
    $("scrub").style.setProperty("--to", `${(100 * region[1]) / (last || 1)}%`);
  }
  $("scrub").classList.toggle("part", Boolean(region));
  writeAddress();
}
function wholeClip() { region = null; showRegion(); }

$("scrub").addEventListener("input", () => { pause(); stand(((frames() - 1) * $("scrub").value) / 1000); });
$("scrub").addEventListener("change", writeAddress);
$("play").addEventListener("click", toggle);
$("back").addEventListener("click", () => step(-1));
$("forward").addEventListener("click", () => step(1));
$("speed").addEventListener("change", speed);
function speed() { for (const v of videos) v.playbackRate = Number($("speed").value); }
$("loop").addEventListener("click", () => { loop = !loop; press($("loop"), loop); });
$("region-start").addEventListener("click", () => mark(false));
$("region-end").addEventListener("click", () => mark(true));
$("region").addEventListener("click", wholeClip);
$("sound").addEventListener("change", () => { heard = $("sound").value === "null" ? null : $("sound").value; sound(); });
