"""Results out: a table of formats, a file a group of them, and the threads that write."""
