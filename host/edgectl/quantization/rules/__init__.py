"""How each family of operators is computed in integers: functions of the builder and a node (rewrite.Rule)."""
