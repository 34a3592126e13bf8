"""Athletes with physics, virtual gyms, fleets and faults."""
