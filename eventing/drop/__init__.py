"""What is dropped: the places where files are dropped, what was told of them, and who looks at them again and again."""
