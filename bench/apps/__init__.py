"""What is served: users' scripts, each as that server's users write it."""
