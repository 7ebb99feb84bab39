"""Tables, repositories, lease statements and migrations."""
