"""The edge gateway: sources, device sessions, spool and uplink of one box."""
