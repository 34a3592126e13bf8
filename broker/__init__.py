"""What travels between nodes and the platform, and who may send it. Knows no other Paceline package."""
