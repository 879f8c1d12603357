"""Pictures of what a store holds: charts with a sentence each, a page that holds them, figures for a paper.

Read in this order: `style` (colours, and what all charts share), `picture` (a measurement, a chart of it, its rows, SQL
and sentence; pictures.toml), `neurons`, `experts`, `perturbation`, `training` (the charts), `cards` (what some neurons
detect), `page` (one HTML file, and what the store lacks; page.html, figure.html, cards.html, page.css, page.js),
`figures` (SVG, PDF, PNG, CSV).
"""

import importlib.util

from ..errors import AnalysisError

if not all(importlib.util.find_spec(name) for name in ("altair", "vl_convert")):
    raise AnalysisError("pictures need the extra 'report': pip install 'neuronlake[report]'")
