"""One module per command or group of commands. They import nothing heavy until they run."""
