"""States of a Windows guest that a plan must know of, one module a noun. Pure: facts in, findings out."""
