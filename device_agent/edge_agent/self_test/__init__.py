"""The self-test of an accelerator: small programs made by hand, whose results are known without it."""
