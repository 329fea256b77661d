"""Results for people: findings.json, overlay, report.html, PDF pages, the patient leaflet, summary.csv."""
