"""Looking at a run from another process while it goes on: what it shows, and its report served to a browser."""

from __future__ import annotations
