"""What tests of several files share: cases, small networks (zoo), fakes, the command line as a function."""
