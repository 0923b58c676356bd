"""What a defense, an attack and a recognizer must keep to."""
