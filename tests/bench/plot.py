"""Bars with their spread, as SVG: no library needed. Pure."""
import math
from xml.sax.saxutils import escape

COLORS = ["#8c8c8c", "#1b7f5c", "#4aa3df", "#c7762e", "#7a5ea8", "#b8405e", "#4d6b1f", "#333333"]
PANEL_WIDTH, PLOT_HEIGHT, MARGIN, LEFT, TITLE, FOOT, LEGEND = 860, 190, 16, 70, 30, 26, 22


class Panel:
    """`groups`: [(label, {series: Spread})]; a series that is missing in a group leaves its place empty."""

    def __init__(self, title, unit, groups, logarithmic=False):
        self.title, self.unit, self.groups, self.logarithmic = title, unit, [(label, bars) for label, bars in groups if bars], logarithmic

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
        base = top + TITLE + PLOT_HEIGHT
        ticks, share = self.scale()

        def y_of(value):
            return base - PLOT_HEIGHT * share(value)

        lines = [text(MARGIN, top + 18, f"{self.title} ({self.unit})", "title")]
        for value in ticks:
            lines += [f'<line x1="{LEFT}" x2="{PANEL_WIDTH - MARGIN}" y1="{y_of(value):.1f}" y2="{y_of(value):.1f}" class="grid"/>',
                      text(LEFT - 6, y_of(value) + 4, f"{value:,.6g}", "end")]
        width = (PANEL_WIDTH - MARGIN - LEFT) / max(1, len(self.groups))
        for index, (label, bars) in enumerate(self.groups):
            left = LEFT + index * width
            lines.append(text(left + width / 2, base + 16, label, "middle"))
            lines += self.draw_group(bars, left, width, base, y_of, colors)
        return lines + self.draw_legend(base + FOOT + 12, colors)

    def scale(self):
        """(values with a line, value -> share of the height)."""
        spreads = [spread for _, bars in self.groups for spread in bars.values()]
        highest = max(spread.high for spread in spreads) or 1
        if not self.logarithmic:
            ceiling = nice(highest)
            return [ceiling * step / 4 for step in range(5)], lambda value: value / ceiling
        floor = math.floor(math.log10(min(spread.low for spread in spreads if spread.low > 0) * 0.9))
        roof = max(floor + 1, math.ceil(math.log10(highest)))
        return ([10.0 ** power for power in range(floor, roof + 1)],
                lambda value: max(0.0, (math.log10(value) - floor) / (roof - floor)) if value > 0 else 0.0)

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


class Scores:
    """How far each figure is from its bound: [(label, Spread, met)], 1 being the bound and more being better."""

    series = ()
    LABELS, ROW, MOST = 470, 20, 4.0

    def __init__(self, title, rows):
        self.title, self.groups = title, rows

    @property
    def height(self):
        return TITLE + self.ROW * len(self.groups)

    def draw(self, top, _):
        def x_of(value):
            return self.LABELS + (PANEL_WIDTH - MARGIN - self.LABELS) * min(value, self.MOST) / self.MOST

        lines = [text(MARGIN, top + 18, self.title, "title")]
        for index, (label, spread, met) in enumerate(self.groups):
            y = top + TITLE + index * self.ROW
            color, width = COLORS[1] if met else COLORS[5], x_of(spread.median) - self.LABELS
            lines += [text(self.LABELS - 8, y + 13, label, "end"),
                      f'<rect x="{self.LABELS}" y="{y + 3}" width="{width:.1f}" height="13" fill="{color}"/>',
                      f'<line x1="{x_of(spread.low):.1f}" x2="{x_of(spread.high):.1f}" y1="{y + 9.5}" y2="{y + 9.5}" class="spread"/>']
        lines.append(f'<line x1="{x_of(1):.1f}" x2="{x_of(1):.1f}" y1="{top + TITLE}" y2="{top + self.height}" class="bound"/>')
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
