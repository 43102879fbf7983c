"""The nodes of a cluster as the pool sees them: where there is room, and which are not to be used."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable

from bench.execute.cluster import Node
from bench.execute.tasks import Lane

STRIKES = 3  # failures of different workers in a row after which a node is set aside


class Machines:
    """What is known of nodes.

    Attributes:
        known: those that are there, by id.
        sizes: CPUs and GPUs of every node seen: one that left may return.
        bad: those set aside, and why.
        good: method -> nodes it worked on.
        failed: method -> nodes it could not be loaded on.
    """

    def __init__(self) -> None:
        self.known: dict[str, Node] = {}
        self.sizes: set[tuple[float, float]] = set()
        self.bad: dict[str, str] = {}
        self.good: dict[str, set[str]] = defaultdict(set)
        self.failed: dict[str, set[str]] = defaultdict(set)
        self._names: dict[str, str] = {}
        self._strikes: Counter[str] = Counter()
        self._open: list[Node] = []
        self._full: dict[tuple[int, float], int] = {}  # how many of the open ones have no room for such a lane

    def look(self, nodes: Iterable[Node]) -> None:
        """Take in what the cluster says of its nodes now."""
        self.known = {node.id: node for node in nodes}
        self._names |= {node.id: node.name for node in self.known.values()}
        self.sizes |= {(node.cpus, node.gpus) for node in self.known.values() if node.cpus}  # no bare head
        self._sort()

    def name(self, node: str) -> str:
        """Return what people call a node, also one that is gone."""
        return self._names.get(node, node)

    @property
    def usable(self) -> list[Node]:
        """Nodes that take work."""
        return self._open

    def could_hold(self, lane: Lane) -> bool:
        """Tell whether a worker would fit on some node if nothing else were there."""
        return any(lane.cpus <= cpus and lane.gpus <= gpus + 1e-9 for cpus, gpus in self.sizes)

    @property
    def offer(self) -> str:
        """What nodes have, in words."""
        has = " or ".join(f"{cpus:g} CPUs and {gpus:g} GPUs" for cpus, gpus in sorted(self.sizes))
        return has or "no node that takes work yet"

    def closed(self, node: str) -> bool:
        """Tell whether a node is there and takes no new work."""
        return node in self.bad or (node in self.known and self.known[node].draining)

    def with_room(self, lane: Lane) -> Node | None:
        """Return a node on which a worker fits."""
        size = lane.cpus, lane.gpus
        for index in range(self._full.get(size, 0), len(self._open)):
            if self._open[index].room(lane):
                self._full[size] = index
                return self._open[index]
        self._full[size] = len(self._open)
        return None

    @staticmethod
    def occupy(node: Node, lane: Lane) -> None:
        """Take a worker's share off what a node has free; the next look says what is really free."""
        node.free_cpus -= lane.cpus
        node.free_gpus -= lane.gpus

    def release(self, node: str, lane: Lane) -> None:
        """Give back what a worker occupied."""
        if node in self.known:
            self.known[node].free_cpus += lane.cpus
            self.known[node].free_gpus += lane.gpus
            self._full.clear()

    def elsewhere(self, nodes: Collection[str]) -> bool:
        """Tell whether other nodes than these take work."""
        return any(node.id not in nodes and node.cpus for node in self._open)

    def unfit(self, node: str) -> list[str]:
        """Return methods that could not be loaded on a node, while there are nodes to try them on."""
        return [m for m, nodes in self.failed.items() if node in nodes and self.elsewhere(nodes)]

    def praise(self, node: str) -> None:
        """Note that a worker did something there."""
        self._strikes[node] = 0

    def strike(self, node: str) -> None:
        """Note that a worker was lost there."""
        self._strikes[node] += 1

    def out(self, node: str) -> bool:
        """Tell whether a node has lost too many workers in a row."""
        return self._strikes[node] >= STRIKES

    def set_aside(self, node: str, why: str) -> None:
        """Use a node no more."""
        self.bad[node] = why
        self._sort()

    def _sort(self) -> None:
        self._open = [n for n in self.known.values() if n.id not in self.bad and not n.draining]
        self._full.clear()
