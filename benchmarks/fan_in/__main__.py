from .report import main

if __name__ == "__main__":  # the processes that it spawns import this module too
    main()
