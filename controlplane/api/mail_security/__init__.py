"""REST of the mail policy: one router a noun, all below /api/v1/mail-security."""
