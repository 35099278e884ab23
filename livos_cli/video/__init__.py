"""Video in: files, streams and folders of images, as frames with their times."""
