"""The host side of the device kit: what `paceline firmware` builds, signs, offers, flashes and runs."""
