"""The page that `report` writes: template, style, script, and the numbers behind the pictures."""
