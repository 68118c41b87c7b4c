"""The command line. Each file is one group of commands; heavy imports wait until a command needs them."""
