"""The recurrent state of one video, stepped from frame to frame. No input, no output."""
