"""Virtual sensors: what each has to say, when, and in which bytes; nothing here knows how the bytes travel."""
