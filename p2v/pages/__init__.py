"""What the suite's HTML pages are made of: markup, charts, the layout, the base of their style and script.

Those of one page alone (its sections, its words, its own style and script) are beside that page.
"""
