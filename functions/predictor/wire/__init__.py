"""How requests and answers are spelled: bodies, V1's rows, V2's tensors. Nothing here serves a path."""
