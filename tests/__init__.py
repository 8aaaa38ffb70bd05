"""Tests, laid out as modelopt_cli is; support/ holds what several share."""
