"""Golden cases: they ship as the package `auditspan.policy.golden_cases`."""
