"""What happens in the world: its draw, the engines that play it, and the random numbers they use."""
