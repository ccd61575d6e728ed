"""Many runs from one command: workers of an engine claim them from one folder, which no process owns."""
