"""Report: the HTML page of one run or of several, its charts and its pictures."""
