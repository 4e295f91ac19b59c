"""A figure of what was sampled once a second, as text that a browser shows: no library for two dozen lines."""

from collections.abc import Sequence
from typing import NamedTuple

WIDTH, HEIGHT, EDGE, GAP = 900, 160, 60, 50


class Line(NamedTuple):
    title: str
    values: Sequence[float]


def svg(lines: Sequence[Line], marks: Sequence[tuple[float, str]] = ()) -> str:
    """One panel for each line, from zero to its largest value; `marks` are seconds and what happened then."""
    panels = [_panel(line, marks, EDGE // 2 + at * (HEIGHT + GAP)) for at, line in enumerate(lines)]
    width, height = WIDTH + 2 * EDGE, len(lines) * (HEIGHT + GAP) + EDGE
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" font-size="12">'
    return "\n".join([head, '<rect width="100%" height="100%" fill="white"/>', *panels, "</svg>\n"])


def _panel(line: Line, marks: Sequence[tuple[float, str]], top: int) -> str:
    most, last = max(*line.values, 1e-9), max(len(line.values) - 1, 1)
    spots = [f"{EDGE + at / last * WIDTH:.1f},{top + HEIGHT * (1 - value / most):.1f}" for at, value in enumerate(line.values)]
    drawn = [
        f'<text x="{EDGE}" y="{top - 6}">{line.title}: at most {most:,.1f}, {last:,} s</text>',
        f'<rect x="{EDGE}" y="{top}" width="{WIDTH}" height="{HEIGHT}" fill="none" stroke="#bbb"/>',
        f'<polyline points="{" ".join(spots)}" fill="none" stroke="#1f6fb4" stroke-width="1.5"/>',
    ]
    for second, said in marks:
        x = EDGE + second / last * WIDTH
        drawn.append(f'<path d="M{x:.1f} {top}v{HEIGHT}" stroke="#c33" stroke-dasharray="4"/>')
        drawn.append(f'<text x="{x + 4:.1f}" y="{top + 14}" fill="#c33">{said}</text>')
    return "\n".join(drawn)
