"""How the operations of a program become calls of C functions: a file for each family."""
