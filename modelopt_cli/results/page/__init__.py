"""report.html: one file that shows a report to whoever opens it, without network and without a server.

`page.render(reports)` gives the whole file as text. words.py says in sentences what came out, sections.py which tables
and charts stand where, vega.py finds the charting library's script. page.html, page.css and page.js are what a browser
reads."""
