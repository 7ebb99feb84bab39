"""The policy hook: judges mail at every SMTP stage, by milter for Postfix, by HTTP for Stalwart."""
