"""What pages for people are made of: charts and tables as text, without scripts and without addresses."""
