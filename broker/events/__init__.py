"""Events for the user, social and promo domains: see docs/events.md."""
