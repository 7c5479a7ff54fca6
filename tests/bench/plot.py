"""Bars with their spread, as SVG: no library needed. Pure."""
from xml.sax.saxutils import escape

COLORS = ["#8c8c8c", "#1b7f5c", "#4aa3df", "#c7762e", "#7a5ea8", "#b8405e", "#4d6b1f", "#333333"]
PANEL_WIDTH, PLOT_HEIGHT, MARGIN, LEFT, TITLE, FOOT, LEGEND = 860, 190, 16, 70, 30, 26, 22


class Panel:
    """`groups`: [(label, {series: Spread})]; a series that is missing in a group leaves its place empty."""

    def __init__(self, title, unit, groups, line=None):
        self.title, self.unit, self.groups, self.line = title, unit, [(label, bars) for label, bars in groups if bars], line

    @property
    def series(self):
        names = []
        for _, bars in self.groups:
            names += [name for name in bars if name not in names]
        return names

    @property
    def height(self):
        return TITLE + PLOT_HEIGHT + FOOT + LEGEND

    def draw(self, top, colors):
        """Lines of SVG."""
        highest = max([spread.high for _, bars in self.groups for spread in bars.values()] + [self.line or 0]) or 1
        ceiling = nice(highest)
        base = top + TITLE + PLOT_HEIGHT

        def y_of(value):
            return base - PLOT_HEIGHT * min(value, ceiling) / ceiling

        lines = [text(MARGIN, top + 18, f"{self.title} ({self.unit})" if self.unit else self.title, "title")]
        for step in range(5):
            value = ceiling * step / 4
            lines += [f'<line x1="{LEFT}" x2="{PANEL_WIDTH - MARGIN}" y1="{y_of(value):.1f}" y2="{y_of(value):.1f}" class="grid"/>',
                      text(LEFT - 6, y_of(value) + 4, f"{value:,.4g}", "end")]
        width = (PANEL_WIDTH - MARGIN - LEFT) / max(1, len(self.groups))
        for index, (label, bars) in enumerate(self.groups):
            left = LEFT + index * width
            lines.append(text(left + width / 2, base + 16, label, "middle"))
            lines += self.draw_group(bars, left, width, base, y_of, colors)
        if self.line is not None:
            lines.append(f'<line x1="{LEFT}" x2="{PANEL_WIDTH - MARGIN}" y1="{y_of(self.line):.1f}" y2="{y_of(self.line):.1f}" class="bound"/>')
        return lines + self.draw_legend(base + FOOT + 12, colors)

    def draw_group(self, bars, left, width, base, y_of, colors):
        names = self.series
        bar = width * 0.8 / len(names)
        lines = []
        for place, name in enumerate(names):
            if name not in bars:
                continue
            spread, x = bars[name], left + width * 0.1 + place * bar
            lines.append(f'<rect x="{x:.1f}" y="{y_of(spread.median):.1f}" width="{bar * 0.9:.1f}" height="{base - y_of(spread.median):.1f}" '
                         f'fill="{colors[name]}"><title>{escape(name)}: {spread.median:,.4g} ({spread.low:,.4g} to {spread.high:,.4g})</title></rect>')
            middle = x + bar * 0.45
            lines.append(f'<line x1="{middle:.1f}" x2="{middle:.1f}" y1="{y_of(spread.low):.1f}" y2="{y_of(spread.high):.1f}" class="spread"/>')
        return lines

    def draw_legend(self, y, colors):
        lines, x = [], LEFT
        for name in self.series:
            lines += [f'<rect x="{x}" y="{y - 9}" width="10" height="10" fill="{colors[name]}"/>', text(x + 14, y, name, "start")]
            x += 30 + 7 * len(name)
        return lines


def text(x, y, content, kind):
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}">{escape(content)}</text>'


def nice(value):
    """The least of 1, 2, 2.5, 5 times a power of ten that is not below the value."""
    power = 10.0 ** len(str(int(value))) if value >= 1 else 1.0
    while power / 10 >= value:
        power /= 10
    return min(step * power / 10 for step in (1, 2, 2.5, 5, 10) if step * power / 10 >= value)


def svg(panels):
    """One picture with the panels below each other. A series has one colour in all of them."""
    panels = [panel for panel in panels if panel.groups]
    names = []
    for panel in panels:
        names += [name for name in panel.series if name not in names]
    colors = {name: COLORS[index % len(COLORS)] for index, name in enumerate(names)}
    height = sum(panel.height + MARGIN for panel in panels) + MARGIN
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{PANEL_WIDTH}" height="{height}" viewBox="0 0 {PANEL_WIDTH} {height}">',
             "<style>text{font:12px sans-serif;fill:#222}.title{font-weight:bold;font-size:13px}.end{text-anchor:end}.middle{text-anchor:middle}"
             ".grid{stroke:#ddd}.spread{stroke:#000;stroke-width:1.5}.bound{stroke:#b00;stroke-dasharray:5 3}</style>",
             f'<rect width="{PANEL_WIDTH}" height="{height}" fill="#fff"/>']
    top = MARGIN
    for panel in panels:
        lines += panel.draw(top, colors)
        top += panel.height + MARGIN
    return "\n".join([*lines, "</svg>"]) + "\n"
