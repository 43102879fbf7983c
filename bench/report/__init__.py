"""One Table model rendered as Markdown, HTML, LaTeX, CSV and JUnit XML."""
