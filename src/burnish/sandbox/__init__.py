"""The sandbox: runs Python programs that nobody has read, and judges them from outside. Never
imports torch."""

from burnish.sandbox.client import Job, Outcome, Sandbox
from burnish.sandbox.limits import TIERS, Limits, Tier
from burnish.sandbox.tasks import CodeTests, code_tests

__all__ = ["TIERS", "CodeTests", "Job", "Limits", "Outcome", "Sandbox", "Tier", "code_tests"]
