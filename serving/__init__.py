"""The model server and its detector; imports neither runner, torch nor ultralytics."""
