"""The process that alone imports torch, and the client that starts, watches and asks it."""
