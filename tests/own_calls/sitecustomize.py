"""Python imports this at its start, in every process that a test starts with this folder on PYTHONPATH."""

import own_calls

own_calls.install()
