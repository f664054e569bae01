"""The teacher's pass on a Ray cluster: workers label blocks of views, which are leased to them."""
