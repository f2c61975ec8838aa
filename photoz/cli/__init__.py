"""What the command lines of this project share: commands, options and text for terminals."""
