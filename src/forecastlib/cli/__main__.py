"""The command line as ``python -m forecastlib.cli``."""

from forecastlib.cli import main

main()
