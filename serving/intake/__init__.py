"""What comes in: keys, connections, forms and uploads, each within its limit."""
