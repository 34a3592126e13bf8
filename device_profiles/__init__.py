"""What sensors and files say, as data and readers. Knows no other Paceline package."""
