"""One page that shows what runs learnt, and what they still get wrong.

It needs plotly and Jinja2, which are imported when a page is made.
"""

from detcenter.report.page import report_page
from detcenter.report.runs import Comparison, ReportedData, ReportedRun

__all__ = ["Comparison", "ReportedData", "ReportedRun", "report_page"]
