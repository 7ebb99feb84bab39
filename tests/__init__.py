"""The tests, in tiers: core, sim, contract, render, api, docs, lab and e2e."""
