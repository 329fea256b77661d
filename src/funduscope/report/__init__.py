"""What is written for people: findings.json, overlay, report.html, PDF pages, the patient leaflet."""
