"""`livos ui`: a video and its masks in a page of the browser, over a server on this machine."""
