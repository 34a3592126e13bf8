"""A virtual Bluetooth daemon: org.bluez on a private D-Bus, with a room of virtual sensors behind it."""
